/** What `npm start` and the production image run. */
import { runProcess } from './app/process.ts'

runProcess()
