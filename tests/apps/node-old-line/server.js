const http = require('http')
const ms = require('ms')

const year = 1970 + Math.round(ms('49y') / ms('1y'))

http
  .createServer((request, response) => response.end(`${process.version} of ${year}\n`))
  .listen(process.env.PORT || 3000, () => console.log('guestbook is open'))
