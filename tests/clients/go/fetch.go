// Fetches URL with METHOD as Go's net/http does by default, and prints the body. A third argument is sent
// as content that the server must ask for (100 Continue), however long that takes.
package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"
)

func main() {
	url, method := os.Args[1], os.Args[2]
	content := strings.Join(os.Args[3:], "")
	request, err := http.NewRequest(method, url, strings.NewReader(content))
	if err != nil {
		fail(err)
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	if content != "" {
		request.Header.Set("Expect", "100-continue")
		transport.ExpectContinueTimeout = time.Hour
	}
	response, err := transport.RoundTrip(request)
	if err != nil {
		fail(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		fail(err)
	}
	if response.StatusCode != http.StatusOK {
		fail(fmt.Errorf("%s\n%s", response.Status, body))
	}
	os.Stdout.Write(body)
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}
