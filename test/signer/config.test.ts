import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { parseSignerConfig } from '../../src/signer/config.ts'
import { counterBlock, createCounters } from '../../src/signer/counters.ts'
import { createHighWater } from '../../src/signer/high-water.ts'

const good = {
  socket: '/run/agentca/signer.sock',
  stateDirectory: '/var/lib/agentca/signer',
  trustDomain: 'example.org',
  module: { path: '/usr/lib/softhsm/libsofthsm2.so', tokenLabel: 'agentca' },
  sessions: 4,
  keys: [{ label: 'log-1', purposes: ['checkpoint'] }],
}

describe('the signer’s configuration', () => {
  test('defaults are filled in, given ceilings are kept', () => {
    const key = {
      label: 'k',
      purposes: ['leaf'],
      certificate: '-----BEGIN CERTIFICATE-----',
      ceilings: { maxLeafSeconds: { agent: 3600 }, perMinute: { leaf: 10 } },
    }
    const config = parseSignerConfig(JSON.stringify({ ...good, keys: [key] }))
    expect(config.keys[0]!.ceilings).toMatchObject({
      maxLeafSeconds: { agent: 3600, service: 90 * 86_400 },
      perMinute: { leaf: 10, checkpoint: 1200 },
      maxResponderSeconds: 45 * 86_400,
    })
  })

  test('all faults come at once, each with its path', () => {
    const bad = {
      ...good,
      socket: 'relative',
      trustDomain: 'UPPER',
      pin: '1234',
      module: { path: 'x.so' },
      keys: [
        { label: '../x', purposes: ['leaf', 'everything'] },
        { label: 'a', purposes: [] },
      ],
    }
    try {
      parseSignerConfig(JSON.stringify(bad))
      expect.unreachable()
    } catch (error) {
      const { message, facts } = error as { message: string; facts: { faults: string[] } }
      for (const path of [
        '$.socket',
        '$.trustDomain',
        '$.pin',
        '$.module.path',
        '$.module.tokenLabel',
        '$.keys[0].label',
        '$.keys[0].purposes',
        '$.keys[0].certificate',
        '$.keys[1].purposes',
      ]) {
        expect(message).toContain(path)
      }
      expect(facts.faults.length).toBeGreaterThanOrEqual(9)
      expect(message).not.toContain('1234')
    }
    expect(() => parseSignerConfig('{')).toThrow(/not JSON/)
    expect(() => parseSignerConfig('[]')).toThrow(/expected an object/)
  })
})

describe('state that survives', () => {
  let directory: string
  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), 'agentca-state-'))
  })
  afterEach(() => rmSync(directory, { recursive: true, force: true }))

  test('counts: exact after an orderly end, never too low after a crash', () => {
    const first = createCounters(directory)
    for (let i = 0; i < 5; i++) first.increment('k', 'leaf')
    first.close()
    const second = createCounters(directory)
    expect(second.counts()).toEqual([{ key: 'k', purpose: 'leaf', total: 5, uncertain: 0, reserved: 5, sinceStart: 0 }])
    for (let i = 0; i < counterBlock + 1; i++) second.increment('k', 'leaf')
    // No close: the process died.
    const [count] = createCounters(directory).counts()
    const truth = 5 + counterBlock + 1
    expect(count!.total).toBeGreaterThanOrEqual(truth)
    expect(count!.total - count!.uncertain).toBeLessThanOrEqual(truth)
    expect(count!.uncertain).toBeLessThanOrEqual(2 * counterBlock)
  })

  test('damaged counters and marks stop the start instead of counting from zero', () => {
    writeFileSync(join(directory, 'signature-counts.json'), '{"k/leaf":{"total":-1}}')
    expect(() => createCounters(directory)).toThrow(expect.objectContaining({ code: 'signer_config_invalid' }))
    writeFileSync(join(directory, 'high-water.json'), '{"crl":{"a":"x"}}')
    expect(() => createHighWater(directory)).toThrow(expect.objectContaining({ code: 'signer_config_invalid' }))
  })
})

test('the client’s side loads without any native module', () => {
  const files = ['client', 'port', 'supervisor', 'inspect', 'errors', 'config'].map(
    name => new URL(`../../src/signer/${name}.ts`, import.meta.url).href,
  )
  const script = `for (const f of ${JSON.stringify(files)}) await import(f); process.stdout.write('loaded')`
  expect(
    execFileSync(process.execPath, ['--no-addons', '--input-type=module', '-e', script], { encoding: 'utf8' }),
  ).toBe('loaded')
})
