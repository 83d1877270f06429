// How long `agentca serve` takes to its ready line with many certificates in the ledger, held against an empty one.
import { join } from 'node:path'
import type { Bench } from './bench.ts'
import type { Run } from './figure.ts'
import { makeFullHome } from './ledger.ts'
import { type CaHome, makeHome, serve } from './world.ts'

const readySeconds = async (home: CaHome): Promise<number> => {
  await using ca = await serve(home)
  return ca.readySeconds
}

export const start: Bench = {
  name: 'start',
  metrics: ['readySeconds'],
  run: async context => {
    const { rounds, certificates } = context.quick
      ? { rounds: 3, certificates: 5_000 }
      : { rounds: 7, certificates: context.full ? 10_000_000 : 1_000_000 }
    const empty = await makeHome(join(context.directory, 'start-empty'))
    const full = await makeFullHome(context, 'start-full', certificates)
    for (const home of [empty, full]) await readySeconds(home)
    const runs: Run[] = []
    for (let round = 0; round < rounds; round++)
      runs.push({ value: await readySeconds(full), limitValue: await readySeconds(empty) })
    context.found({ metric: 'readySeconds', unit: 's', limit: 'an empty database', runs })
  },
}
