"""What `kami demo buy` asks the front door, as any client would."""

MARKET = """
query ($country: CountryCode) {
  market(country: $country) { country currency language source paymentMethods { code name reasons } }
}"""
SHELF = """
query ($handle: String!, $first: Int!, $country: CountryCode) @inContext(country: $country) {
  shop(handle: $handle) {
    name
    products(first: $first) {
      nodes { title variants { id title available price { amount currency } } }
    }
  }
}"""
START = """
mutation ($input: StartCheckoutInput!, $key: String!) {
  startCheckout(input: $input) @idempotent(key: $key) {
    __typename
    ... on Checkout {
      accessKey expiresAt
      order { id number total { amount currency } }
      quote { base target rate referenceRate spreadBps source }
      paymentMethods { code name canSave }
    }
    ... on Problem { code message path }
    ... on InvalidInput { problems { code message path } }
  }
}"""
PAY = """
mutation ($input: PayInput!, $key: String!) {
  pay(input: $input) @idempotent(key: $key) {
    __typename
    ... on Payment {
      id status amount { amount currency } method { code name }
      nextAction { __typename ... on RedirectAction { url } }
    }
    ... on Problem { code message path }
  }
}"""
WATCH = """
subscription ($id: ID!, $key: String!) {
  orderEvents(orderId: $id, accessKey: $key) {
    __typename
    ... on OrderEvent { sequence kind occurredAt order { status goods { content } } }
  }
}"""
SIGN_IN = """
mutation ($input: SignInInput!) { signIn(input: $input) { __typename ... on Session { token } } }"""
SIGN_OUT = "mutation { signOut { __typename } }"
FLOW = """
query ($id: ID!, $key: String) {
  order(id: $id, accessKey: $key) {
    status paymentState total { amount currency }
    fundsFlow { leg amount { amount currency } }
  }
}"""
SAVED = """
query ($id: ID!, $key: String!) {
  order(id: $id, accessKey: $key) { savedMethods { id label } }
}"""
AGAIN = """
mutation ($input: BuyAgainInput!, $key: String!) {
  buyAgain(input: $input) @idempotent(key: $key) {
    __typename
    ... on Payment { status accessKey amount { amount currency } order { id number } }
    ... on Problem { code message path }
  }
}"""
