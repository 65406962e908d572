<?php
// Reports how PHP reads a request. A POST is taken for another method by the rules of Symfony and
// Laravel. The path is the one that the front server uses for routing.
$method = $_SERVER['REQUEST_METHOD'];
if ($method === 'POST') {
    $said = $_SERVER['HTTP_X_HTTP_METHOD_OVERRIDE'] ?? $_POST['_method'] ?? $_GET['_method'] ?? $method;
    $method = is_string($said) ? strtoupper($said) : 'AN ARRAY';
}
$fields = [];
foreach ($_SERVER as $name => $value) {
    if (str_starts_with($name, 'HTTP_')) {
        $fields[$name] = $value;
    }
}
header('Content-Type: application/json');
echo json_encode([
    'method' => $method,
    'path' => $_SERVER['ROUTED_PATH'] ?? $_SERVER['PATH_INFO'] ?? '',
    'query' => (object) $_GET,
    'fields' => (object) $fields,
    'content' => strlen(file_get_contents('php://input')),
], JSON_INVALID_UTF8_SUBSTITUTE | JSON_UNESCAPED_SLASHES);
