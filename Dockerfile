# The images of Inglenook, from one file: `services` (each service by its name, its commands, the
# responder) and `gateway` (Envoy and the web app). Nothing in them can compile, and nobody is root.
#
#     docker build --target services --tag inglenook/services .
#     docker build --target gateway --tag inglenook/gateway .

ARG PYTHON=python:3.11.14-slim-bookworm

FROM ${PYTHON} AS installer
ENV PIP_NO_CACHE_DIR=1 UV_NO_CACHE=1 UV_PYTHON_DOWNLOADS=never UV_COMPILE_BYTECODE=1
WORKDIR /opt/inglenook
COPY requirements/installer.lock requirements/
RUN pip install --require-hashes --requirement requirements/installer.lock

FROM installer AS services-packages
COPY requirements/services.lock requirements/
RUN uv venv /opt/packages && \
    uv pip install --python /opt/packages/bin/python --require-hashes \
        --requirement requirements/services.lock

FROM installer AS gateway-packages
COPY requirements/gateway.lock requirements/
RUN uv venv /opt/packages && \
    uv pip install --python /opt/packages/bin/python --require-hashes \
        --requirement requirements/gateway.lock

# What compiles the contract and builds the web app; none of it goes any further.
FROM installer AS workshop
COPY requirements/everything.lock requirements/
RUN uv venv /opt/workshop && \
    uv pip install --python /opt/workshop/bin/python --require-hashes \
        --requirement requirements/everything.lock
ENV PATH=/opt/workshop/bin:$PATH PYTHONPATH=/opt/inglenook:/opt/inglenook/generated

FROM workshop AS contract
COPY contract contract
COPY protos protos
RUN python -m contract.compile && python -m contract.reference

FROM workshop AS web
COPY package.json package-lock.json .npmrc tsconfig.base.json ./
COPY clients/typescript/package.json clients/typescript/
COPY web/package.json web/
RUN npm ci --loglevel error
COPY contract contract
COPY --from=contract /opt/inglenook/generated generated
COPY clients/typescript clients/typescript
COPY web web
RUN python -m contract.typescript node_modules/.bin/protoc-gen-es clients/typescript/src/generated && \
    npm run build --workspace clients/typescript && \
    npm run build --workspace web

FROM ${PYTHON} AS runtime
ENV PATH=/opt/packages/bin:$PATH \
    PYTHONPATH=/opt/inglenook:/opt/inglenook/generated \
    PYTHONDONTWRITEBYTECODE=1 \
    INGLENOOK_SETTINGS_FOLDER=/run/secrets
WORKDIR /opt/inglenook
COPY LICENSE ./
COPY contract contract
COPY services services
COPY --from=contract /opt/inglenook/generated generated
# Where a part's secrets are mounted, and where `deploy.provision` makes all of them: a new volume
# comes to belong to whom the folder belongs to. By the public authorities' certificates a database
# elsewhere is verified.
RUN install --directory --owner=10001 --group=10001 --mode=0700 /run/secrets /secrets && \
    test -s /etc/ssl/certs/ca-certificates.crt && \
    python -m compileall -q contract services generated
USER 10001:10001
ENTRYPOINT ["python", "-m"]

FROM runtime AS services
COPY --from=services-packages /opt/packages /opt/packages
COPY deploy deploy
COPY examples/responder examples/responder

FROM runtime AS gateway
COPY --from=gateway-packages /opt/packages /opt/packages
COPY gateway gateway
COPY --from=web /opt/inglenook/web/dist web/dist
ENV INGLENOOK_LISTEN=0.0.0.0:8080 \
    INGLENOOK_BOOTSTRAP_FILE=/tmp/envoy.json \
    INGLENOOK_WEB_FOLDER=/opt/inglenook/web/dist
EXPOSE 8080
CMD ["gateway"]
