import "./styles/page.css";
import "./styles/shell.css";
import "./styles/conversation.css";
import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { App } from "./app";
import { readConfiguration } from "./sign_in/configuration";

const place = document.getElementById("app");
if (place === null) {
  throw new Error("The page has no place for the app.");
}
createRoot(place).render(
  <StrictMode>
    <App configuration={readConfiguration()} />
  </StrictMode>,
);
