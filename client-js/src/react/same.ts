/** When two values are taken for the same, so that what they stand for is. */

/** The same, or arrays or plain objects whose parts are by `equal`, as `Object.is` if not given. */
export const alike = (one: any, two: any, equal = Object.is): boolean => {
  if (Object.is(one, two)) return true;
  const kind = one?.constructor;
  if (kind !== two?.constructor || (kind !== Object && kind !== Array)) return false;
  const names = Object.keys(one);
  return (
    names.length === Object.keys(two).length &&
    names.every((name) => name in two && equal(one[name], two[name]))
  );
};

/** Of the same content, however deep. */
export const same = (one: unknown, two: unknown): boolean => alike(one, two, same);
