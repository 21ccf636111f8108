// The partner app of docs/examples, driven as its merchant and its webhooks do; arguments: its address and the person.
import { Webhook } from "standardwebhooks";
import { person } from "./browser.mjs";

const { app, secret, ...who } = JSON.parse(process.argv[2]);
const begun = await fetch(`${app}/login`, { redirect: "manual" });
const cookie = begun.headers.get("set-cookie").split(";")[0];
const { back } = await person(who)(new URL(begun.headers.get("location")));
const stolen = await fetch(back, { redirect: "manual" }); // in another browser
const orders = await fetch(back, { headers: { cookie } });

const body = JSON.stringify({ type: "order.paid", data: { number: "1" } });
const now = new Date();
const signature = new Webhook(secret).sign("msg_1", now, body);
const send = (text) =>
  fetch(`${app}/hook`, {
    method: "POST",
    body: text,
    headers: {
      "webhook-id": "msg_1",
      "webhook-timestamp": String(Math.floor(now.getTime() / 1000)),
      "webhook-signature": signature,
    },
  });
console.log(
  JSON.stringify({
    stolen: stolen.status,
    orders: [orders.status, (await orders.text()).split("\n")],
    hook: (await send(body)).status,
    forged: (await send(body.replace("1", "2"))).status,
  }),
);
