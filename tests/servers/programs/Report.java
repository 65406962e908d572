import jakarta.servlet.http.HttpServlet;
import jakarta.servlet.http.HttpServletRequest;
import jakarta.servlet.http.HttpServletResponse;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.Collections;
import java.util.Map;
import java.util.TreeMap;
import org.apache.catalina.Context;
import org.apache.catalina.connector.Connector;
import org.apache.catalina.startup.Tomcat;

/** Reports how Tomcat reads a request. A POST is taken for another method by the rule of Spring's HiddenHttpMethodFilter. */
public class Report extends HttpServlet {
    @Override
    protected void service(HttpServletRequest request, HttpServletResponse response) throws IOException {
        Map<String, String[]> query = request.getParameterMap();
        String method = request.getMethod();
        String hidden = request.getParameter("_method");
        if (method.equals("POST") && hidden != null) {
            method = hidden.toUpperCase();
        }
        int content = request.getInputStream().readAllBytes().length;
        StringBuilder json = new StringBuilder("{\"method\":").append(text(method));
        json.append(",\"path\":").append(text(String.valueOf(request.getPathInfo()))).append(",\"query\":{");
        String comma = "";
        for (Map.Entry<String, String[]> entry : query.entrySet()) {
            json.append(comma).append(text(entry.getKey())).append(":[");
            String inner = "";
            for (String value : entry.getValue()) {
                json.append(inner).append(text(value));
                inner = ",";
            }
            json.append("]");
            comma = ",";
        }
        Map<String, String> fields = new TreeMap<>();
        for (String name : Collections.list(request.getHeaderNames())) {
            fields.put("HTTP_" + name.toUpperCase().replace('-', '_'), request.getHeader(name));
        }
        json.append("},\"fields\":{");
        comma = "";
        for (Map.Entry<String, String> entry : fields.entrySet()) {
            json.append(comma).append(text(entry.getKey())).append(":").append(text(entry.getValue()));
            comma = ",";
        }
        json.append("},\"content\":").append(content).append("}");
        byte[] bytes = json.toString().getBytes(StandardCharsets.UTF_8);
        response.setContentType("application/json");
        response.setContentLength(bytes.length);
        response.getOutputStream().write(bytes);
    }

    private static String text(String value) {
        StringBuilder json = new StringBuilder("\"");
        for (char c : value.toCharArray()) {
            json.append(c < ' ' || c == '"' || c == '\\' || c > '~' ? String.format("\\u%04x", (int) c) : c);
        }
        return json.append('"').toString();
    }

    public static void main(String[] arguments) throws Exception {
        String directory = Path.of(arguments[0]).toAbsolutePath().toString();
        Tomcat tomcat = new Tomcat();
        tomcat.setBaseDir(directory);
        Connector connector = new Connector();
        connector.setPort(0);
        connector.setProperty("address", "127.0.0.1");
        connector.setEncodedSolidusHandling("decode");
        connector.setProperty("relaxedPathChars", "\\[]{}|\"<>^`");
        connector.setProperty("relaxedQueryChars", "\\[]{}|\"<>^`");
        tomcat.setConnector(connector);
        Context context = tomcat.addContext("", directory);
        Tomcat.addServlet(context, "report", new Report());
        context.addServletMappingDecoded("/*", "report");
        tomcat.start();
        System.out.println("listening " + connector.getLocalPort());
        tomcat.getServer().await();
    }
}
