// Where in its life a certificate is renewed: the one statement that answers, renewal information and documents go by.

/** A fleet that started together is not to renew together: somewhere between these shares of a life. */
export const earliestRenewal = 0.5
export const latestRenewal = 0.66

/** @returns milliseconds since the epoch, on whole seconds */
export const renewalWindowOf = ({ notBefore, notAfter }: { readonly notBefore: number; readonly notAfter: number }) => {
  const at = (share: number): number => Math.floor((notBefore + (notAfter - notBefore) * share) / 1000) * 1000
  return { start: at(earliestRenewal), end: at(latestRenewal) }
}
