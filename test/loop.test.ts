/** The owner's loop alone: it must hold on every Node, every PostgreSQL and every kind of install. */
import t from 'tap'
import { closeTheLoop } from './helpers/owners-loop.ts'

t.test('the whole loop runs with one single-use enrollment token', (t) => closeTheLoop(t))
