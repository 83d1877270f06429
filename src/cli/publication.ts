// Whether a revocation has reached those who read CRLs: the published lists are fetched and looked into, as any relying party would.
import { performance } from 'node:perf_hooks'
import { setTimeout as sleep } from 'node:timers/promises'
import { messageOf } from '../base/errors.ts'
import { type Crl, parseCrl } from '../pki/crl.ts'
import { serialFromHex } from '../pki/serial.ts'
import type { CrlAnswer } from '../schema/admin-answers.ts'
import type { AdminClient } from './admin-client.ts'
import { fetchOk } from './fetch-url.ts'

export interface Publication {
  /** `unseen`: the published lists could not be fetched from here. */
  readonly state: 'published' | 'not-yet' | 'unseen'
  readonly afterMs: number
  readonly missing: number
  readonly detail: string | null
}

const pauseMs = 100

const fetchLists = async (
  items: readonly CrlAnswer[],
  known: Map<string, { readonly number: string; readonly crl: Crl }>,
): Promise<void> => {
  for (const { issuer, number, url } of items) {
    if (url === null || known.get(issuer)?.number === number) continue
    known.set(issuer, { number, crl: parseCrl(await fetchOk(url)) })
  }
}

/** Waits until every serial is on one of the published CRLs, `waitSeconds` at most. */
export const awaitPublication = async (
  client: AdminClient,
  serials: readonly string[],
  waitSeconds: number,
): Promise<Publication> => {
  const startedAt = performance.now()
  const lists = new Map<string, { readonly number: string; readonly crl: Crl }>()
  const wanted = serials.map(serialFromHex)
  for (;;) {
    let detail: string | null = null
    try {
      const { items } = await client.call('crlStatus')
      // Complete lists have what shards have.
      await fetchLists(
        items.filter(({ shard }) => shard === null),
        lists,
      )
    } catch (error) {
      detail = messageOf(error)
    }
    const missing = wanted.filter(serial => ![...lists.values()].some(({ crl }) => crl.findRevoked(serial))).length
    const afterMs = Math.round(performance.now() - startedAt)
    if (missing === 0) return { state: 'published', afterMs, missing, detail: null }
    if (afterMs >= waitSeconds * 1000)
      return { state: lists.size === 0 ? 'unseen' : 'not-yet', afterMs, missing, detail }
    await sleep(Math.min(pauseMs, waitSeconds * 1000 - afterMs))
  }
}
