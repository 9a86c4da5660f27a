import Koa from 'koa'
import { greet } from '@monorepo/greet'

const app = new Koa()
app.use((ctx) => {
  ctx.body = greet('workspace')
})
app.listen(process.env.PORT)
