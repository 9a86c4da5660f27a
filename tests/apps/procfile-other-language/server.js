import { createServer } from 'node:http'

createServer((request, response) => response.end('Node serves the feed\n')).listen(process.env.PORT)
