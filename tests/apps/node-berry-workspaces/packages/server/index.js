const { createServer } = require('node:http')
const { greet } = require('@guests/greetings')

createServer((request, response) => response.end(`${greet(3)}\n`)).listen(process.env.PORT)
