// What the stories of ACME's bad input share: a CA as it is served, agents with accounts, and what each refusal must come to: the error
// type of its RFC, no certificate, and a leaf in the audit log that an operator finds by the id in the answer.
import { dirname } from 'node:path'
import { expect } from 'vitest'
import type { LeafAnswer } from '../../src/schema/admin-answers.ts'
import type { Reply } from '../http/harness.ts'
import { type Account, AcmeRequests, type Binding, must, type OrderedCertificate } from './acme-requests.ts'
import { createStoryHome } from './ca-process.ts'
import { createOperator, type Operator } from './operator.ts'
import { serveHere } from './served-here.ts'

export const urn = 'urn:ietf:params:acme:error:'

export interface AcmeStory extends AsyncDisposable {
  readonly api: string
  readonly acme: AcmeRequests
  readonly operator: Operator
  /** What is true of every refusal. */
  expectRefused(reply: Reply, wanted: readonly [status: number, type: string]): Promise<void>
  /** Whatever happens inside, no certificate comes of it. */
  withoutIssuance(act: () => Promise<void>): Promise<void>
  /** A binding for one account of a new agent, which grants these names. */
  binding(names?: readonly string[]): Promise<Binding & { readonly agent: string }>
  /** An account of a new agent that may order these names. */
  account(names?: readonly string[]): Promise<Account & { readonly agent: string }>
}

/** @param settings of this CA beside those of every story */
export const startAcmeStory = async (settings: Readonly<Record<string, string>> = {}): Promise<AcmeStory> => {
  const home = await createStoryHome({ AGENTCA_AUDIT_CHECKPOINTEVERY: '1h', ...settings })
  // A leaf of its own has each refusal that does not come in a flood of them: in this story they come eleven seconds apart.
  const time = { aheadMs: 0 }
  const server = await serveHere(home, time)
  const operator = createOperator(home.env, dirname(home.paths.home))
  const acme = await AcmeRequests.at(server.line.api)
  let agents = 0

  const certificates = async (): Promise<number> => (await operator.json<unknown[]>('cert list --all')).length
  const binding: AcmeStory['binding'] = async (names = []) => {
    const agent = `acme-${++agents}`
    await operator.json(`agent create ${agent} --owner stories`)
    const granted = names.map(name => ` --dns ${name}`).join('')
    return { ...(await operator.json<Binding>(`acme eab create --agent ${agent}${granted}`)), agent }
  }
  return {
    api: server.line.api,
    acme,
    operator,
    binding,
    account: async names => {
      const bound = await binding(names)
      return { ...(await acme.account(bound)), agent: bound.agent }
    },
    expectRefused: async (reply, [status, type]) => {
      const { body, headers, text } = reply
      const answered = [reply.status, body?.type, headers['content-type'], body?.status]
      expect(answered, text).toEqual([status, urn + type, 'application/problem+json', status])
      expect(body.detail).toMatch(/\S/)
      const leaves = await operator.json<LeafAnswer[]>('audit tail -n 50')
      expect(leaves.map(({ content }) => content?.req)).toContain(headers['x-request-id'])
      time.aheadMs += 11_000
    },
    withoutIssuance: async act => {
      const before = await certificates()
      await act()
      expect(await certificates()).toBe(before)
    },
    [Symbol.asyncDispose]: async () => {
      acme.close()
      await server.close(0)
      home.remove()
    },
  }
}

/** And somebody who has a certificate for this name, and an order for it that is granted and not yet finalized. */
export const startIssuedStory = async (
  name: string,
): Promise<{
  readonly story: AcmeStory
  readonly acme: AcmeRequests
  readonly account: Account
  readonly issued: OrderedCertificate
  readonly ready: Reply
}> => {
  const story = await startAcmeStory()
  const { acme } = story
  const account = await story.account([name])
  const issued = await acme.certificate(account, [name])
  return { story, acme, account, issued, ready: must(await acme.newOrder(account, [name]), 201) }
}
