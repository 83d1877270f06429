// Child process of crash.test.ts: issues without end and prints each serial only when its promise resolved.

import * as w from './make-ledger.ts'
import { makeLedger, makeWorld, type World } from './make-ledger.ts'

const ledger = makeLedger(process.argv[2])
const world = await makeWorld(ledger)

const lineage = async (of: World): Promise<never> => {
  for (;;) {
    const intent = w.intentOf(of)
    await w.recordIntent(of, intent)
    process.stdout.write(`intent ${intent.serial}\n`)
    await w.recordIssued(of, intent)
    process.stdout.write(`issued ${intent.serial}\n`)
  }
}
await Promise.all(Array.from({ length: 16 }, () => lineage(world)))
