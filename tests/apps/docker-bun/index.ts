import { Hono } from "hono";

const app = new Hono();
app.get("/", (c) => c.text(`Hello via Bun ${typeof Bun}`));

const server: Bun.Server = Bun.serve({ port: process.env.PORT, fetch: app.fetch });
console.log(`Listening on ${server.url}`);
