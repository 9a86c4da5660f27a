const http = require("http");
const chokidar = require("chokidar");
http.createServer((request, response) => response.end(`chokidar ${typeof chokidar.watch}`)).listen(process.env.PORT);
