// Says hello from Express. `npm start` is found in package.json.
"use strict";

const express = require("express");

const app = express();
const port = process.env.PORT || 3000;
const release = process.env.PAAS_RELEASE || "no release";

app.get("/", (request, response) => {
  response.type("text/plain").send(`Hello from Node, release ${release}!\n`);
});

const server = app.listen(port, () => console.log(`listening on port ${port}`));

// Finish the requests in flight when the platform says stop.
process.on("SIGTERM", () => server.close(() => process.exit(0)));
