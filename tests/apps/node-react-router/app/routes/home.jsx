export function loader() {
  return { message: "React Router on the server" };
}

export default function Home({ loaderData }) {
  return <h1>{loaderData.message}</h1>;
}
