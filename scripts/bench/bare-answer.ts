// What a bare server has to send so that it sends the same bytes as ours: an answer of ours, without what node:http adds by itself.
import type { BareServerJob } from './bare-server.ts'
import type { Target } from './exchange.ts'

const added: ReadonlySet<string> = new Set(['date', 'connection', 'keep-alive'])

/** Of a plain HTTP listener. */
export const bareAnswer = async (
  { host, port }: Target,
  path: string,
  question?: RequestInit,
): Promise<BareServerJob> => {
  const answer = await fetch(`http://${host}:${port}${path}`, question)
  if (answer.status !== 200) throw new Error(`expected status 200 of ${path}, got ${answer.status}`)
  return {
    status: 200,
    headers: [...answer.headers].filter(([name]) => !added.has(name)).flat(),
    body: new Uint8Array(await answer.arrayBuffer()),
    tls: null,
  }
}
