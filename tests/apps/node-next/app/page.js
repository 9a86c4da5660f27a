export const dynamic = "force-dynamic";

export default function Home() {
  return <main>Next in {process.env.NODE_ENV}, server side</main>;
}
