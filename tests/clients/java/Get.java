// Requests a URL by HttpURLConnection, which takes no proxy from the environment.

import java.net.HttpURLConnection;
import java.net.URI;

class Get {
    public static void main(String[] given) throws Exception {
        var connection = (HttpURLConnection) URI.create(given[0]).toURL().openConnection();
        connection.getInputStream().transferTo(System.out);
    }
}
