import pluralize from 'pluralize'

export const greet = (guests: number): string => `Welcome, ${pluralize('guest', guests, true)}`
