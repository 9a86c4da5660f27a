import { shout } from '@echoes/text'
import { Hono } from 'hono'

const app = new Hono()
app.get('/', (context) => context.text(shout('echoes of a workspace')))

export default app
