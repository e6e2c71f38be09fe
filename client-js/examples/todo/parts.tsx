/** Small parts of the page, which know nothing of logs. */

import { useState, type ReactNode } from 'react';

const PATHS = {
  undo: 'M9 7H4V2M4.5 7a8 8 0 1 1-.9 7',
  redo: 'M15 7h5V2M19.5 7a8 8 0 1 0 .9 7',
  remove: 'M6 6l12 12M18 6L6 18',
  wait: 'M12 6v6l4 2M12 3a9 9 0 1 0 .01 0',
  bell: 'M6 17h12l-1.5-2.5V10a4.5 4.5 0 0 0-9 0v4.5zM10.5 20h3',
  cloud: 'M7 18a4 4 0 0 1 0-8 5.5 5.5 0 0 1 10.5 1.5A3.3 3.3 0 0 1 17 18z',
  cut: 'M7 18a4 4 0 0 1 0-8 5.5 5.5 0 0 1 10.5 1.5A3.3 3.3 0 0 1 17 18zM4 3l16 18',
};

export const Icon = ({ name }: { name: keyof typeof PATHS }) => (
  <svg className="icon" viewBox="0 0 24 24" aria-hidden="true"><path d={PATHS[name]} /></svg>
);

interface FieldProps {
  readonly label: string;
  readonly value: string;
  readonly placeholder?: string;
  readonly className?: string;
  readonly empty?: boolean;
  readonly onChange: (value: string) => void;
}

/** A text that is changed where it stands: what comes meanwhile does not take it away. */
export const Field = ({ label, value, placeholder, className, empty, onChange }: FieldProps) => {
  const [draft, setDraft] = useState<string>();
  const done = (): void => {
    setDraft(undefined);
    const text = draft?.trim();
    if (text !== undefined && text !== value && (text || empty)) onChange(text);
  };
  return (
    <input
      className={className} aria-label={label} placeholder={placeholder} value={draft ?? value}
      onChange={({ target }) => setDraft(target.value)} onBlur={done}
      onKeyDown={({ key, currentTarget }) => key === 'Enter' && currentTarget.blur()}
    />
  );
};

export const Stepper = ({ what, count, onStep }: {
  readonly what: string; readonly count: number; readonly onStep: (by: number) => void;
}) => (
  <span className="stepper" role="group" aria-label={`How many: ${what}`}>
    <button type="button" aria-label={`One less: ${what}`} disabled={count <= 1}
      onClick={() => onStep(-1)}>−</button>
    <b>{count}</b>
    <button type="button" aria-label={`One more: ${what}`} onClick={() => onStep(1)}>+</button>
  </span>
);

export const Who = ({ what, value, people, onChange }: {
  readonly what: string; readonly value: string; readonly people: readonly string[];
  readonly onChange: (value: string) => void;
}) => (
  <select className="who" aria-label={`Who: ${what}`} value={value} data-who={value}
    onChange={({ target }) => onChange(target.value)}>
    <option value="">Anyone</option>
    {people.map((one) => <option key={one}>{one}</option>)}
  </select>
);

export const Switch = ({ label, on, onChange }: {
  readonly label: ReactNode; readonly on: boolean; readonly onChange: (on: boolean) => void;
}) => (
  <button type="button" role="switch" aria-checked={on} className="switch"
    onClick={() => onChange(!on)}><i aria-hidden="true" />{label}</button>
);
