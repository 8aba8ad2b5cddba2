/**
 * Bounds the push steps in a command's timeline, of which a phone can cause many with new push tokens. The first ones
 * stay and the newest, whose `left_out` counts those missing before it.
 */
import { timeText } from '../list-page.ts'

const MAX_PUSH_STEPS = 100

const IS_PUSH = /* sql */ `stage in ('push_sent', 'push_failed', 'no_push_token')`

/** CTEs for a statement whose CTE `step` adds a step to command $1: they delete the surplus. */
export const DROP_SURPLUS = /* sql */ `
  surplus as materialized (
    select event_id, detail from command_events where request_id = $1 and ${IS_PUSH}
    order by event_id offset ${MAX_PUSH_STEPS - 1}),
  dropped as (
    delete from command_events
    where event_id in (select event_id from surplus) and exists (select from step))`

/** For the added step's detail: null if nothing was dropped. */
export const LEFT_OUT = /* sql */ `
  (select jsonb_build_object('left_out', count(*) + coalesce(sum((detail->>'left_out')::int), 0))
   from surplus having count(*) > 0)`

/** The timeline of command $1, in the same form even if a release without the limit wrote more. */
export const TIMELINE = /* sql */ `
  with story as (
    select *, ${IS_PUSH} as is_push, row_number() over in_order as nth, count(*) over of_kind as total,
      sum((detail->>'left_out')::int) over of_kind as left_out
    from command_events where request_id = $1
    window of_kind as (partition by ${IS_PUSH}), in_order as (of_kind order by event_id))
  select ${timeText('at')} as "at", stage as "stage", code as "code", instance as "instance",
    case when is_push and total > ${MAX_PUSH_STEPS} and nth = total
      then coalesce(detail, '{}')
        || jsonb_build_object('left_out', total - ${MAX_PUSH_STEPS} + coalesce(left_out, 0))
      else detail end as "detail"
  from story where not is_push or nth < ${MAX_PUSH_STEPS} or nth = total
  order by event_id`
