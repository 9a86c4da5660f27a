const http = require("node:http");
const { WebSocketServer } = require("ws");
const { title } = require("@root/shared");

const server = http.createServer((request, response) => response.end(`${title} over ${WebSocketServer.name}`));
new WebSocketServer({ server }).on("connection", (socket) => socket.send("hello"));
server.listen(process.env.PORT || 3000);
