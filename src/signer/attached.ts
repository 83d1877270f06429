// A signer that somebody else keeps alive: a unit of its own, under a user of its own. Here it is only watched, through its socket; what
// supervisor.ts does about a signer that hangs is done where it was started.
import { createAttention } from '../base/attention.ts'
import type { Clock } from '../base/clock.ts'
import { AgentCaError } from '../base/errors.ts'
import type { SignerClient } from './client.ts'
import type { SignerSupervisor, SupervisorState } from './supervisor.ts'

export interface AttachedDeps {
  readonly socket: string
  readonly client: SignerClient
  readonly clock: Clock
  /** How often it is asked how it is; default 500. */
  readonly probeMs?: number
}

/** It answers nothing for so long before it is said to be down. */
const silentMs = 1000

export const attachSigner = ({ socket, client, clock, probeMs = 500 }: AttachedDeps): SignerSupervisor => {
  let current: SupervisorState = {
    state: 'starting',
    pid: null,
    starts: 0,
    kills: 0,
    sinceMs: clock.now(),
    detail: `looking for the signer on ${socket}`,
  }
  const attention = createAttention(clock)
  let silentSince: number | null = null
  const probe = async (): Promise<void> => {
    const askedAt = attention.now()
    const { state, detail } = await client.health()
    if (current.state === 'stopped') return
    if (client.isConnected() && detail === 'the signer did not answer in time') {
      silentSince ??= askedAt
      // Its answer may be there, and unread: what stood still was this process.
      if (attention.now() - silentSince < silentMs) return
    } else silentSince = null
    const told = client.isConnected() ? detail : `no signer answers on ${socket}: ${detail}`
    current = { ...current, state, detail: told, sinceMs: state === current.state ? current.sinceMs : clock.now() }
  }
  let probing = false
  const timer = setInterval(() => {
    if (probing) return
    probing = true
    void probe().finally(() => {
      probing = false
    })
  }, probeMs)
  return {
    state: () => current,
    async ready(timeoutMs, patience = 'every start') {
      const until = clock.monotonic() + timeoutMs
      while (current.state !== 'ready' || !client.isConnected()) {
        const failed = current.state === 'locked' || (current.state === 'down' && patience === 'one start')
        if (failed || clock.monotonic() > until || current.state === 'stopped') {
          throw new AgentCaError('signer_not_ready', `the signer is ${current.state}: ${current.detail}`, {
            hint: current.state === 'locked' ? 'agentca hsm unlock' : 'systemctl status agentca-signer',
          })
        }
        await new Promise(resolve => setTimeout(resolve, 10))
      }
    },
    // Its configuration is its own: nothing here changes it.
    restart: async () => {},
    async close() {
      clearInterval(timer)
      attention.close()
      current = { ...current, state: 'stopped', detail: 'stopped' }
    },
  }
}
