// The URLs of ACME's resources, all from `publicUrl.api` and never from a request: accounts outlive host names that somebody typed.

/** Paths below the base, without the parameter of those that have one. */
export const acmePaths = {
  directory: '/directory',
  newNonce: '/new-nonce',
  newAccount: '/new-account',
  newOrder: '/new-order',
  revokeCert: '/revoke-cert',
  keyChange: '/key-change',
  renewalInfo: '/renewal-info',
  account: '/account',
  order: '/order',
  authorization: '/authz',
  challenge: '/challenge',
  certificate: '/certificate',
} as const

export interface Urls {
  of(path: string): string
  account(id: string): string
  /** @returns the id; null for a URL that is no account's here */
  accountIdOf(url: string): string | null
  orders(account: string, before?: string): string
  order(id: string): string
  finalize(order: string): string
  authorization(order: string, index: number): string
  challenge(order: string, index: number, type: string): string
  /** @param chain 0: the one that the order names; others are alternates */
  certificate(serial: string, chain?: number): string
}

/** @param publicUrl of the API, without a slash at its end */
export const createUrls = (publicUrl: string): Urls => {
  const base = `${publicUrl}/acme`
  const at = (path: string, ...parts: readonly (string | number)[]): string => [base + path, ...parts].join('/')
  const accounts = `${base}${acmePaths.account}/`
  return {
    of: path => base + path,
    account: id => accounts + id,
    accountIdOf: url => {
      const id = url.startsWith(accounts) ? url.slice(accounts.length) : ''
      return /^[0-9a-f]{32}$/.test(id) ? id : null
    },
    orders: (account, before) => `${accounts}${account}/orders${before === undefined ? '' : `?before=${before}`}`,
    order: id => at(acmePaths.order, id),
    finalize: id => at(acmePaths.order, id, 'finalize'),
    authorization: (order, index) => at(acmePaths.authorization, order, index),
    challenge: (order, index, type) => at(acmePaths.challenge, order, index, type),
    certificate: (serial, chain = 0) => at(acmePaths.certificate, serial, ...(chain === 0 ? [] : [chain])),
  }
}
