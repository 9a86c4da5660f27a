const http = require("node:http");
const greet = require("greet");

http.createServer((request, response) => response.end(greet("file"))).listen(process.env.PORT);
