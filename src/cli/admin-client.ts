// The admin API as a typed function: route names in, answers out, problem documents as errors. Table and answers are schema's.
import {
  type AdminAnswers,
  type AdminBodyInput,
  type AdminParams,
  type AdminQueryInput,
  type AdminRouteName,
  adminRoutes,
} from '../schema/admin-api.ts'
import type { Connection, Reply } from './connection.ts'
import { CliError, ServerRefusal } from './errors.ts'

type PartOf<Name extends string, Value> = [Value] extends [undefined]
  ? { readonly [K in Name]?: undefined }
  : { readonly [K in Name]: Value }

export type AdminRequest<N extends AdminRouteName> = PartOf<
  'params',
  [keyof AdminParams<N>] extends [never] ? undefined : AdminParams<N>
> &
  PartOf<'body', AdminBodyInput<N>> & { readonly query?: AdminQueryInput<N> | undefined }

/** Routes without parameters and body are called by their name alone. */
type RequestArguments<N extends AdminRouteName> =
  Record<never, never> extends AdminRequest<N> ? [request?: AdminRequest<N>] : [request: AdminRequest<N>]

export interface AdminClient {
  readonly target: string
  /** @throws ServerRefusal for a problem document; CliError for a server that cannot be asked or understood */
  call<N extends AdminRouteName>(name: N, ...request: RequestArguments<N>): Promise<AdminAnswers[N]>
}

interface LooseRequest {
  readonly params?: Readonly<Record<string, string>> | undefined
  readonly body?: unknown
  readonly query?: Readonly<Record<string, unknown>> | undefined
}

const pathOf = (name: AdminRouteName, { params = {}, query = {} }: LooseRequest): string => {
  const path = adminRoutes[name].path.replace(/:([a-z]+)/gi, (_, key: string) =>
    encodeURIComponent(params[key] as string),
  )
  const search = new URLSearchParams()
  for (const [key, value] of Object.entries(query)) if (value !== undefined) search.set(key, String(value))
  return `/v1/admin${path}${search.size === 0 ? '' : `?${search}`}`
}

const isObject = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

const parseJson = (reply: Reply, target: string): Readonly<Record<string, unknown>> => {
  try {
    const value: unknown = JSON.parse(reply.body)
    if (isObject(value)) return value
  } catch {
    // Told below: what is not JSON is not ours either.
  }
  throw new CliError(
    'server_answer_malformed',
    `${target} answered with status ${reply.status} and no JSON: is it agentca?`,
    { facts: { status: reply.status } },
  )
}

const answerOf = (reply: Reply, target: string): unknown => {
  const document = parseJson(reply, target)
  if (reply.status >= 200 && reply.status < 300) return document
  const { type, title, status, detail, code, requestId, hint, facts } = document
  if (typeof code !== 'string' || typeof detail !== 'string')
    throw new CliError(
      'server_answer_malformed',
      `${target} answered with status ${reply.status} and no problem document`,
    )
  throw new ServerRefusal({
    type: String(type),
    title: String(title),
    status: typeof status === 'number' ? status : reply.status,
    detail,
    code,
    requestId: String(requestId ?? '-'),
    ...(typeof hint === 'string' ? { hint } : {}),
    ...(isObject(facts) ? { facts } : {}),
  })
}

export const createAdminClient = (connection: Connection): AdminClient => ({
  target: connection.target,
  call: async <N extends AdminRouteName>(name: N, ...[request]: RequestArguments<N>) => {
    const loose: LooseRequest = request ?? {}
    const { method } = adminRoutes[name]
    const body = method === 'POST' ? JSON.stringify(loose.body ?? {}) : null
    const reply = await connection.send(method, pathOf(name, loose), body)
    return answerOf(reply, connection.target) as AdminAnswers[N]
  },
})

type ListRouteName = {
  [N in AdminRouteName]: AdminQueryInput<N> extends { after?: string | undefined } | undefined
    ? undefined extends AdminQueryInput<N>
      ? never
      : N
    : never
}[AdminRouteName]
type ItemOf<N extends ListRouteName> = AdminAnswers[N] extends { readonly items: readonly (infer T)[] } ? T : never

/** Every page of a list, one after the other. */
export async function* everyPage<N extends ListRouteName>(
  client: AdminClient,
  name: N,
  request: Omit<AdminRequest<N>, 'body'>,
): AsyncGenerator<readonly ItemOf<N>[]> {
  let after: string | undefined
  do {
    const query = { limit: 1000, ...request.query, ...(after === undefined ? {} : { after }) }
    const page = (await client.call(name, ...([{ ...request, query }] as unknown as RequestArguments<N>))) as {
      readonly items: readonly ItemOf<N>[]
      readonly next: string | null
    }
    yield page.items
    after = page.next ?? undefined
  } while (after !== undefined)
}
