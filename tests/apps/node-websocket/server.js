const http = require("node:http");
const { WebSocketServer } = require("ws");

const greeting = "hello";

const page = `<!doctype html>
<title>Echo</title>
<p id="said">waiting</p>
<script>
  const socket = new WebSocket(location.origin.replace(/^http/, "ws") + "/echo");
  socket.onopen = () => socket.send("from a browser");
  socket.onmessage = ({ data }) => { document.getElementById("said").textContent = data; };
</script>
`;

const server = http.createServer((request, response) => {
  response.setHeader("Content-Type", "text/html");
  response.end(page);
});

new WebSocketServer({ server, path: "/echo" }).on("connection", (socket) => {
  socket.on("message", (data) => socket.send(`${greeting} ${data}`));
});

server.listen(process.env.PORT);
