'use strict';

const http = require('node:http');
const { route } = require('./router');

const server = http.createServer((request, response) => {
  const [status, body] = route(request.method, request.url);
  response.writeHead(status, { 'content-type': 'application/json' });
  response.end(JSON.stringify(body) + '\n');
});

server.listen(Number(process.env.PORT), process.env.LOOPBACK ? '127.0.0.1' : '0.0.0.0');
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => server.close(() => process.exit(0)));
