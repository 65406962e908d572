// Reports how express reads a request, with method-override as in its documentation.
const { createRequire } = require('node:module');
const from = createRequire(process.argv[2] + '/');
const express = from('express');
const methodOverride = from('method-override');

const app = express();
app.use(methodOverride('X-HTTP-Method-Override', { methods: null }));
app.use(methodOverride('X-HTTP-Method', { methods: null }));
app.use(methodOverride('X-Method-Override', { methods: null }));
app.use(methodOverride('_method', { methods: ['GET', 'POST'] }));
app.use((request, response) => {
  let path = request.path;
  try {
    path = decodeURIComponent(path);
  } catch {
    // Unchanged.
  }
  const fields = {};
  for (const [name, value] of Object.entries(request.headers)) {
    fields['HTTP_' + name.toUpperCase().replaceAll('-', '_')] = String(value);
  }
  let content = 0;
  request.on('data', (part) => { content += part.length; });
  request.on('end', () => {
    response.json({ method: request.method, path, query: request.query, fields, content });
  });
});
app.use((error, request, response, next) => {
  response.status(400).json({ error: String(error) });
});
const server = app.listen(0, '127.0.0.1', () => {
  console.log('listening ' + server.address().port);
});
