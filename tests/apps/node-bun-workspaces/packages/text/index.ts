import { capitalCase } from 'change-case'

export const shout = (text: string): string => `${capitalCase(text)}!`
