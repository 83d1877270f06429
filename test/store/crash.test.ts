// SIGKILL at any moment: what was answered is there, the log is whole. (An exception is not a crash.)
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'
import { verifyChain } from '../../src/audit/chain.ts'
import * as w from './make-ledger.ts'

const writer = fileURLToPath(new URL('./crash-writer.ts', import.meta.url))

for (const linesBeforeKill of [1, 400, 1500])
  test(`every answer that left a process killed after ${linesBeforeKill} answers is in the ledger`, async () => {
    using file = w.temporaryDatabase()
    const child = spawn(process.execPath, [writer, file.path], { stdio: ['ignore', 'pipe', 'inherit'] })
    let text = ''
    child.stdout.setEncoding('utf8').on('data', chunk => {
      text += chunk
      if (text.split('\n').length > linesBeforeKill) child.kill('SIGKILL')
    })
    const [, signal] = await once(child, 'close')
    expect(signal).toBe('SIGKILL')
    const answers = text
      .split('\n')
      .slice(0, -1)
      .map(line => line.split(' ') as [string, string])
    expect(answers.length).toBeGreaterThanOrEqual(linesBeforeKill)
    const ledger = w.makeLedger(file.path)
    for (const [what, serial] of answers) {
      const state = ledger.certificates.get(serial)?.state
      if (what === 'issued') expect(state).toBe('issued')
      else expect(['intent', 'issued']).toContain(state)
    }
    const leaves = ledger.audit.read(0, 1_000_000)
    const { findings, end } = verifyChain(leaves)
    expect(findings.filter(finding => finding.kind !== 'leaf_index_differs')).toEqual([])
    expect(end.size).toBe(ledger.audit.head().size)
    const intents = ledger.certificates.list({ limit: 1_000_000, states: ['intent'] }).rows
    const swept = await ledger.issuance.sweepIntents({
      now: w.now,
      epoch: 2,
      leaf: () => w.leaf('certificate_orphaned'),
    })
    expect(swept).toHaveLength(intents.length)
    await ledger.close()
  })
