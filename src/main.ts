/** What `npm start` and the production image run. */
import { runProcess } from './process.ts'

runProcess()
