// Who asked, through which request, and when: what a request's context contributes to an audit leaf.
import type { LeafContext } from '../audit/leaf.ts'
import type { RequestContext } from './issuance.ts'

export const leafContextOf = ({ who, requestId, source }: RequestContext, at: number): LeafContext => ({
  at,
  who,
  requestId,
  source,
})
