// A CA that only its own machine can check is served to its own machine only.
import { describe, expect, test } from 'vitest'
import { parseConfig } from '../../src/schema/config.ts'
import { checkListeners } from '../../src/server/listener-rules.ts'

const loopback = { api: 'https://127.0.0.1:8443', status: 'http://localhost:8081' }
const open = { api: 'https://ca.example.org', status: 'http://ca.example.org' }
const outcomeOf = (env: Readonly<Record<string, string>>, urls: typeof loopback): string => {
  try {
    checkListeners(parseConfig({ text: null, source: 'test', env }), urls)
    return 'allowed'
  } catch (error) {
    const { code, message } = error as { code: string; message: string }
    return `${code}: ${message.split(' ')[0]}`
  }
}

describe('a listener beyond loopback', () => {
  test.each([
    [{ AGENTCA_LISTEN_API: '0.0.0.0:8443' }, 'listener_not_allowed: listen.api'],
    [{ AGENTCA_LISTEN_API: '[::]:8443' }, 'listener_not_allowed: listen.api'],
    [{ AGENTCA_LISTEN_STATUS: '192.0.2.1:80' }, 'listener_not_allowed: listen.status'],
    [{ AGENTCA_LISTEN_OPS: '0.0.0.0:9464' }, 'listener_not_allowed: listen.ops'],
  ])('%j is refused while certificates name loopback', (env, outcome) => {
    expect(outcomeOf(env, loopback)).toBe(outcome)
  })

  test('is allowed where certificates name other hosts, for probes and metrics never', () => {
    expect(outcomeOf({ AGENTCA_LISTEN_API: '0.0.0.0:8443', AGENTCA_LISTEN_STATUS: ':80' }, open)).toBe('allowed')
    expect(outcomeOf({ AGENTCA_LISTEN_API: '0.0.0.0:8443' }, { ...loopback, api: 'https://[::1]:1' })).toBe(
      'listener_not_allowed: listen.api',
    )
    expect(outcomeOf({ AGENTCA_LISTEN_OPS: '0.0.0.0:9464' }, open)).toBe('listener_not_allowed: listen.ops')
  })

  test('is none of the defaults', () => {
    expect(outcomeOf({}, loopback)).toBe('allowed')
  })
})
