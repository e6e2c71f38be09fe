/**
 * Logs on the device in React: opened while a component shows them, and two parts that every such
 * app needs: where the user's work is, and what was refused of it.
 *
 * It stands beside `highwater/react`, which an app without a log on the device uses alone.
 */

export { useOpenLog } from './open.js';
export { ReceiptStatus, type ReceiptStatusProps, type ReceiptWords } from './receipt.js';
export { Refused, type RefusedProps, type RefusedWords } from './refused.js';
export { WorkStatus, type WorkState, type WorkStatusProps, type WorkWords } from './work.js';
