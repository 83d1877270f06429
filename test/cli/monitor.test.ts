// What the commands about what agents do say beyond their tables.
import { afterAll, beforeAll, beforeEach, expect, it } from 'vitest'
import { HttpError } from '../../src/http/errors.ts'
import { runCommand } from './command.ts'
import { monitorFixtures, monitorStatus } from './monitor-fixtures.ts'
import { startServer, type TestServer } from './server.ts'

let server: TestServer
beforeAll(async () => {
  server = await startServer()
})
afterAll(async () => {
  await server?.[Symbol.asyncDispose]()
})
beforeEach(() => server.reset())
const run = (line: string, more = {}) => runCommand(line.split(' '), { env: server.env, ...more })

it('top draws the screen anew on a terminal until it cannot, and once elsewhere', async () => {
  let drawn = 0
  const top = monitorFixtures.activityTop
  server.answer('activityTop', asked => {
    if (++drawn === 3) throw new HttpError('shutting_down', 'the server ends')
    return top(asked)
  })
  const live = await run('top --every 1s', { answers: [] })
  expect(live.out.split('\x1b[H\x1b[J')).toHaveLength(3)
  expect(live.err).toContain('the server ends')
  drawn = 0
  const piped = await run('top -o json')
  expect([piped.code, drawn, JSON.parse(piped.out).agents[0].agent]).toEqual([0, 1, 'billing'])
})

it('activity asks for as far back as it is told, and says when there is nothing', async () => {
  server.answer('activityShow', ({ params, query }) => ({ agent: params.name, since: query.since, uses: [] }))
  const { code, err } = await run('activity billing --since 7d')
  expect([code, err]).toEqual([0, 'no service reported a call of billing within 7d\n'])
  const [call] = server.calls
  const { since } = call!.query as { readonly since: string }
  expect(Math.round((Date.now() - Date.parse(since)) / 86_400_000)).toBe(7)
})

it('monitor status ends with a warning while the brake holds', async () => {
  const brake = { ...monitorStatus.brake, brakedAt: '2026-11-24T12:00:00.000Z' }
  server.answer('monitorStatus', () => ({ ...monitorStatus, brake }))
  const { code, out, err } = await run('monitor status')
  expect(code).toBe(10)
  expect(out).toMatch(/^braked +since 2026-11-24T12:00:00.000Z/m)
  expect(err).toContain('agentca monitor release-brake')
  server.answer('monitorStatus', () => ({ ...monitorStatus, rulesFile: null, rules: 0 }))
  expect((await run('monitor status')).out).toMatch(/^rules +none: there is no monitor.yaml$/m)
})
