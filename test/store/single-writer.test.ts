// One writer a ledger: the second is refused while the first lives, and not a moment longer.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { expect, test } from 'vitest'
import * as w from './make-ledger.ts'

const codeOf = (run: () => unknown): string => {
  try {
    run()
    return 'opened'
  } catch (error) {
    return (error as { code: string }).code
  }
}

test('a ledger that is open is not opened again, and is after it was closed', async () => {
  using file = w.temporaryDatabase()
  const first = w.makeLedger(file.path)
  expect(codeOf(() => w.makeLedger(file.path))).toBe('ledger_in_use')
  await first.close()
  await w.makeLedger(file.path).close()
})

test('a writer that forgot its ledger has it until it is killed, and leaves no lock behind', async () => {
  using file = w.temporaryDatabase()
  const module = new URL('../../src/store/sqlite/open.ts', import.meta.url).pathname
  const script = `import { openSqliteLedger } from ${JSON.stringify(module)}
    openSqliteLedger(${JSON.stringify(file.path)}, { clock: { now: Date.now, monotonic: () => performance.now() }, log: { error() {} } })
    setInterval(() => {}, 1000)
    setTimeout(() => { gc(); setTimeout(() => console.log('open'), 50) }, 50)`
  const args = ['--expose-gc', '--input-type=module', '-e', script]
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] })
  const ended = once(child, 'exit')
  try {
    await once(child.stdout, 'data')
    expect(codeOf(() => w.makeLedger(file.path))).toBe('ledger_in_use')
  } finally {
    child.kill('SIGKILL')
  }
  await ended
  await w.makeLedger(file.path).close()
})
