from dash import Dash, dcc, html

app = Dash(__name__, title="Sales")
server = app.server

app.layout = html.Div([html.H1("Sales"), dcc.Graph(figure={"data": [{"y": [1, 3, 2]}]})])

if __name__ == "__main__":
    app.run(debug=True)
