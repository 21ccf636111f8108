// A person's browser: cookies, forms, no script. Follows redirects up to the app's own address.
export const person = ({ issuer, redirect, email, password, merchant }) => async (start) => {
  const cookies = new Map();
  const visit = async (url, form) => {
    const response = await fetch(url, {
      redirect: "manual",
      headers: {
        cookie: [...cookies].map((pair) => pair.join("=")).join("; "),
        ...(form ? { origin: issuer, "content-type": "application/x-www-form-urlencoded" } : {}),
      },
      ...(form ? { method: "POST", body: new URLSearchParams(form) } : {}),
    });
    for (const one of response.headers.getSetCookie()) {
      const [, name, value] = /^([^=]+)=([^;]*)/.exec(one);
      cookies.set(name, value);
    }
    const next = response.headers.get("location");
    if (next === null) return { text: await response.text(), status: response.status };
    const target = new URL(next, issuer);
    return target.href.startsWith(redirect) ? { back: target } : visit(target);
  };
  const submit = (page, entered) => {
    const hidden = [...page.text.matchAll(/<input type="hidden" name="([^"]*)" value="([^"]*)">/g)];
    const plain = (text) => text.replaceAll("&amp;", "&").replaceAll("&#x27;", "'");
    const fields = Object.fromEntries(hidden.map(([, name, value]) => [name, plain(value)]));
    return visit(new URL(/method="post" action="([^"]*)"/.exec(page.text)[1], issuer), { ...fields, ...entered });
  };
  let page = await visit(start);
  if (page.text?.includes('name="password"')) page = await submit(page, { email, password });
  if (page.text?.includes('name="word"')) page = await submit(page, { word: "yes", merchant });
  return page;
};
