// A decision of a moment ago on the peer of one connection, and the last call that was let in by it: most calls come in a row, each like the
// one before. It is looked at for each of them, between cold caches, so it is one small object of one shape.
import type { VerifiedPeer } from '../verify/decision.ts'
import type { CallRequest, Demand } from './judgement.ts'

export class Pass {
  readonly verified: VerifiedPeer
  /** Of what is known: with another one it holds no more. */
  readonly version: number
  /** Monotonic. */
  readonly until: number
  /** Of the last call; null: there was none that the next one could be like. */
  demand: Demand | null = null
  url: string | undefined = undefined
  method: string | undefined = undefined
  /** Whether it may lose what it has to have, while it may call at all. */
  isDemanding = false
  /** Where the last call was counted; null: it was not. */
  counted: object | null = null

  constructor(verified: VerifiedPeer, version: number, until: number) {
    this.verified = verified
    this.version = version
    this.until = until
  }

  /** The same call for all that is known of it, by a demand that is the very same. */
  isLast(request: CallRequest, demand: Demand): boolean {
    return this.demand === demand && this.url === request.url && this.method === request.method
  }

  /** It was let in. What policies say of a call they say of this one only. */
  remember(request: CallRequest, demand: Demand, counted: object | null): void {
    this.demand = demand.conditional === undefined ? demand : null
    this.isDemanding = (demand.roles?.length ?? 0) > 0 || (demand.scopes?.length ?? 0) > 0
    this.url = request.url
    this.method = request.method
    this.counted = counted
  }
}
