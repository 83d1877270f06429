// The systemd units that docs/ has: every word of them is understood, and what they leave open is little.
import { copyFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { root } from '../../scripts/bootstrap.mjs'
import { runProgram } from '../story/served-ca.ts'

const units = ['agentca.service', 'agentca-signer.service', 'agentca-agent.service'] as const

/** As it is, but for the program, which is not installed where it says. */
const analysed = async (unit: string, verb: readonly string[]) => {
  const directory = mkdtempSync(join(tmpdir(), 'agentca-unit-'))
  try {
    const file = join(directory, unit)
    copyFileSync(join(root, 'docs', unit), file)
    writeFileSync(file, readFileSync(file, 'utf8').replace(/^ExecStart=\S+/m, 'ExecStart=/bin/true'))
    return await runProgram('systemd-analyze', [...verb, file], { cwd: directory })
  } finally {
    rmSync(directory, { recursive: true, force: true })
  }
}

describe.each(units)('%s', unit => {
  it('is one that systemd understands', async context => {
    const { code, out, err } = await analysed(unit, ['verify'])
    if (code === -1) return context.skip('systemd-analyze is not installed')
    expect(`${out}${err}`.split('\n').filter(line => line.includes(unit))).toEqual([])
  })

  it('closes what it does not need, as systemd counts it: at most 2 of 10', async context => {
    const { code, out } = await analysed(unit, ['security', '--offline=true', '--threshold=20'])
    if (code === -1) return context.skip('systemd-analyze is not installed')
    expect([code, /level for \S+: (\S+)/.exec(out)?.[1]]).toEqual([0, expect.any(String)])
  })

  it('leaves no core dump, and gains no privilege', () => {
    const text = readFileSync(join(root, 'docs', unit), 'utf8')
    for (const line of ['LimitCORE=1', 'NoNewPrivileges=yes', 'CapabilityBoundingSet=', 'UMask=0077'])
      expect(text.split('\n'), line).toContain(line)
  })
})
