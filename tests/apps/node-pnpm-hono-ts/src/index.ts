import { serve } from '@hono/node-server'
import { existsSync } from 'node:fs'
import { Hono } from 'hono'

const app = new Hono()

app.get('/', (c) => {
  return c.text(`Hello Hono! pruned: ${!existsSync('node_modules/typescript')}`)
})

serve({
  fetch: app.fetch,
  port: Number(process.env.PORT ?? 3000)
}, (info) => {
  console.log(`Server is running on http://localhost:${info.port}`)
})
