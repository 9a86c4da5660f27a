const { readFileSync } = require('fs')
const { createServer } = require('http')

const built = readFileSync('dist/about.json', 'utf8')
createServer((request, response) => response.end(built)).listen(process.env.PORT)
