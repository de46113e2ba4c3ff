export const Generic = <T,>({ items }: { items: T[] }): JSX.Element => {
  const pick = <K extends keyof T>(k: K) => k;
  return (
    <List<T> items={items} render={(x) => <b>{x as string}</b>}>
      don't {'{'} &lt; {items.length < 3 && <i />}
    </List>
  );
};
export function Plain(): JSX.Element | null {
  const [a, setA] = useState<string | null>(null);
  return a ? <p title='a "quoted" }'>// not a comment</p> : null;
}
function After() { return 1 }
