import { describe, expect, it } from 'vitest'
import { createMetrics } from '../../src/telemetry/metrics.ts'

/** The samples of one metric, comments left out. */
const samples = async (metrics: ReturnType<typeof createMetrics>, name: string): Promise<readonly string[]> =>
  (await metrics.render()).split('\n').filter(line => line.startsWith(name))

describe('a counter', () => {
  it('grows by one or by more, for each combination of its labels', async () => {
    const metrics = createMetrics()
    metrics.count('agentca_revocations_total', { by: 'agent', reason: 'keyCompromise' })
    metrics.count('agentca_revocations_total', { by: 'agent', reason: 'keyCompromise' }, 4)
    metrics.count('agentca_revocations_total', { by: 'serial', reason: 'superseded' })
    expect(await samples(metrics, 'agentca_revocations_total')).toEqual([
      'agentca_revocations_total{by="agent",reason="keyCompromise"} 5',
      'agentca_revocations_total{by="serial",reason="superseded"} 1',
    ])
  })

  it('drops labels that are not declared: no serial becomes a time series', async () => {
    const metrics = createMetrics()
    for (let i = 0; i < 10; i++) metrics.count('agentca_lineage_locks_total', { serial: `${i}` })
    expect(await samples(metrics, 'agentca_lineage_locks_total')).toEqual(['agentca_lineage_locks_total 10'])
  })

  it('has a bounded number of series, whatever callers make up; nothing is lost', async () => {
    const metrics = createMetrics()
    const count = (i: number) => metrics.count('agentca_http_requests_total', { route: `/${i}`, status: '404' })
    for (let i = 0; i < 3000; i++) count(i)
    count(1)
    const lines = await samples(metrics, 'agentca_http_requests_total')
    expect(lines).toHaveLength(1001)
    expect(lines).toContain('agentca_http_requests_total{route="other",status="other"} 2000')
    expect(lines).toContain('agentca_http_requests_total{route="/1",status="404"} 2')
  })

  it('cannot be broken by what a label holds', async () => {
    const metrics = createMetrics()
    metrics.count('agentca_requests_refused_total', { code: 'a"b\n\\c' })
    expect(await samples(metrics, 'agentca_requests_refused_total')).toEqual([
      'agentca_requests_refused_total{code="a\\"b\\n\\\\c"} 1',
    ])
  })
})

it('a histogram counts seconds into buckets', async () => {
  const metrics = createMetrics()
  for (const seconds of [0.0002, 0.003, 20])
    metrics.observe('agentca_issuance_seconds', seconds, { operation: 'renew' })
  const lines = await samples(metrics, 'agentca_issuance_seconds')
  expect(lines).toContain('agentca_issuance_seconds_bucket{le="0.0005",operation="renew"} 1')
  expect(lines).toContain('agentca_issuance_seconds_bucket{le="10",operation="renew"} 2')
  expect(lines).toContain('agentca_issuance_seconds_bucket{le="+Inf",operation="renew"} 3')
  expect(lines).toContain('agentca_issuance_seconds_count{operation="renew"} 3')
})

describe('a gauge', () => {
  it('is read when metrics are rendered, and has only the series of that time', async () => {
    const metrics = createMetrics()
    let states = ['issued', 'held']
    metrics.gauge('agentca_certificates', () => states.map((state, value) => ({ value, labels: { state } })))
    expect(await samples(metrics, 'agentca_certificates{')).toEqual([
      'agentca_certificates{state="issued"} 0',
      'agentca_certificates{state="held"} 1',
    ])
    states = ['revoked']
    expect(await samples(metrics, 'agentca_certificates{')).toEqual(['agentca_certificates{state="revoked"} 0'])
  })

  it('registered again has the new reader', async () => {
    const metrics = createMetrics()
    for (const value of [1, 2]) metrics.gauge('agentca_feed_head', () => [{ value }])
    expect(await samples(metrics, 'agentca_feed_head')).toEqual(['agentca_feed_head 2'])
  })

  it('that nobody reads, or that cannot be read, is absent and not 0; the others are there', async () => {
    const metrics = createMetrics()
    metrics.gauge('agentca_audit_leaves', () => {
      throw new Error('the ledger is closed')
    })
    metrics.gauge('agentca_feed_head', () => [{ value: 7 }])
    expect(await samples(metrics, 'agentca_audit')).toEqual([])
    expect(await samples(metrics, 'agentca_feed_head')).toEqual(['agentca_feed_head 7'])
  })
})

describe('the whole', () => {
  it('has the process: memory, file descriptors, event loop delay', async () => {
    const text = await createMetrics().render()
    for (const name of ['process_resident_memory_bytes', 'process_open_fds', 'nodejs_eventloop_lag_p99_seconds'])
      expect(text).toMatch(new RegExp(`^${name} `, 'm'))
  })

  it('is in the text format that its content type says', () =>
    expect(createMetrics().contentType).toBe('text/plain; version=0.0.4; charset=utf-8'))

  it('of one authority is apart from another in the same process', async () => {
    const [one, other] = [createMetrics(), createMetrics()]
    one.count('agentca_lineage_locks_total')
    expect(await samples(other, 'agentca_lineage_locks_total')).toEqual(['agentca_lineage_locks_total 0'])
  })
})
