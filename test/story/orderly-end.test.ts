// A server that ends in order writes what it only counted.
import { readFileSync } from 'node:fs'
import { request } from 'node:https'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { createStoryHome, type StoryHome, startCa } from './ca-process.ts'
import { readLedger } from './invariants.ts'

let home: StoryHome
beforeAll(async () => {
  home = await createStoryHome({ AGENTCA_AUDIT_CHECKPOINTEVERY: '1h' })
})
afterAll(() => home?.remove())

const knocks = 20

test('refusals that got no leaf of their own are counted in the last leaf but one', async () => {
  const ca = await startCa(home, 'serve')
  const body = JSON.stringify({ csr: 'AAAA', evidence: { type: 'token', token: 'nobody-made-it' } })
  const knock = () =>
    new Promise<number>((resolve, reject) => {
      const { hostname, port } = new URL(ca.line.api)
      const headers = { 'Content-Type': 'application/json', 'Content-Length': body.length }
      const options = { host: hostname, port, path: '/v1/enroll', method: 'POST', headers, agent: false }
      request({ ...options, ca: readFileSync(home.rootFile) }, response => {
        response.resume().on('end', () => resolve(response.statusCode ?? 0))
      })
        .on('error', reject)
        .end(body)
    })
  for (let i = 0; i < knocks; i++) expect(await knock()).toBe(401)
  expect(await ca.stop()).toMatchObject({ code: 0 })
  const { leaves } = readLedger(home.paths.database)
  const [summary, end] = leaves.slice(-2)
  expect([summary?.event, end?.event]).toEqual(['refusals_summary', 'core_stopped'])
  const { token_unknown: counted } = JSON.parse(new TextDecoder().decode(summary!.bytes)).codes
  expect(counted).toBeGreaterThan(0)
  expect(leaves.filter(leaf => leaf.event === 'request_refused').length + counted).toBe(knocks)
})
