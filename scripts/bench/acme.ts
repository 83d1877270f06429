// Certificates by ACME: 500 orders of 32 clients, three signed requests each, held against native enrolments of the same CA in the same run,
// which have one request each.
import { join } from 'node:path'
import type { AcmeBinding, AcmeJob, AcmeResult } from './acme-load.ts'
import type { Bench } from './bench.ts'
import { prepareEnrolments } from './enrolments.ts'
import type { Run } from './figure.ts'
import { enrolAll } from './issue.ts'
import type { LoadJob, LoadResult } from './load.ts'
import { startProgram } from './programs.ts'
import { makeHome, type RunningCa, serve } from './world.ts'

const clients = 32
const orders = 500
const noLimit = '10000000'

// Names are never reused.
let agents = 0

/** An agent of its own for each client. */
const prepareBindings = async ({ admin }: RunningCa): Promise<readonly AcmeBinding[]> => {
  const bindings: AcmeBinding[] = []
  for (let i = 0; i < clients; i++) {
    const agent = `acme-${agents++}`
    await admin.call('agentsCreate', { body: { name: agent, owner: 'bench' } })
    const name = `${agent}.internal`
    const { kid, hmacKey } = await admin.call('acmeBindingsCreate', {
      body: { kind: 'agent', name: agent, dns: [name] },
    })
    bindings.push({ kid, hmacKey, name })
  }
  return bindings
}

export const acme: Bench = {
  name: 'acme',
  metrics: ['ordersPerSecond', 'cpuPerOrder'],
  run: async context => {
    const { rounds, warmUp } = context.quick ? { rounds: 1, warmUp: 1 } : { rounds: 5, warmUp: 3 }
    const home = await makeHome(join(context.directory, 'acme'))
    await using ca = await serve(home, { AGENTCA_ACME_ORDERS_BURST: noLimit, AGENTCA_ACME_ORDERS_PERMINUTE: noLimit })
    await using load = startProgram<LoadJob, LoadResult>('load')
    await using acmeLoad = startProgram<AcmeJob, AcmeResult>('acme-load')
    const pids = [ca.corePid, ca.signerPid]
    const order = async (): Promise<AcmeResult> =>
      acmeLoad.run({ target: ca.api, bindings: await prepareBindings(ca), orders, pids })
    for (let round = 0; round < warmUp; round++) {
      await order()
      await enrolAll(ca, load, await prepareEnrolments(ca, orders))
    }

    const speed: Run[] = []
    const cpu: Run[] = []
    for (let round = 0; round < rounds; round++) {
      const ordered = await order()
      const native = await enrolAll(ca, load, await prepareEnrolments(ca, orders))
      speed.push({ value: orders / ordered.seconds, limitValue: native.perSecond })
      cpu.push({
        value: ordered.cpu.reduce((sum, each) => sum + each, 0),
        limitValue: native.coreCpu + native.signerCpu,
      })
    }
    const limit = 'native enrolment'
    context.found({ metric: 'ordersPerSecond', unit: '/s', limit, runs: speed })
    context.found({ metric: 'cpuPerOrder', unit: 'µs', limit, runs: cpu })
  },
}
