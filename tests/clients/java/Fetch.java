// Requests a URL with a method and this many bytes by the HttpClient of java.net.http, which takes proxy and
// trust from system properties, and speaks HTTP/2 if the other side does.

import java.net.ProxySelector;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse.BodyHandlers;

class Fetch {
    public static void main(String[] given) throws Exception {
        var client = HttpClient.newBuilder().proxy(ProxySelector.getDefault()).build();
        var content = new byte[Integer.parseInt(given[2])];
        var request = HttpRequest.newBuilder(URI.create(given[0]))
            .method(given[1], BodyPublishers.ofByteArray(content))
            .build();
        var response = client.send(request, BodyHandlers.ofString());
        System.out.print(response.body());
        if (response.statusCode() != 200) {
            System.err.println(response.version() + " " + response.statusCode());
            System.exit(1);
        }
    }
}
